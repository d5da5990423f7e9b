"""`report.html` of a bundle: what a product owner reads."""
