"""From ratings to a model: the plan, the loop over epochs, checkpoints, tuning and warm-up."""
