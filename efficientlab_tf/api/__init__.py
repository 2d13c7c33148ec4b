"""The door: a loaded model, which adapts to labelled pictures and segments others."""
