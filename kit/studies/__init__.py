"""Studies: what scores or measures many profiles to learn about them."""
