"""What is checked in each format of pictures before a decoder is let near the file."""
