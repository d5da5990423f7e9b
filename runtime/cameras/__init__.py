"""What gives frames: cameras, streams, files and folders, and what keeps them coming."""
