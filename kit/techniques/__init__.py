"""The table of techniques: what each is called, what there is of it, and what was measured (`kit techniques`)."""
