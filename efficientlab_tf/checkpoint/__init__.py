"""What a checkpoint is: a network, its weights, and the run that made them."""
