"""Meta-tests, comparisons of methods, and many-shot studies."""
