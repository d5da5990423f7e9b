"""From faces in frames to who they are: tracks, looks, evidence, decisions."""
