"""What a door does to a face: the battery of conditions, one definition for training, measuring and tests."""
