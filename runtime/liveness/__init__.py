"""Whether somebody who is recognised is alive."""
