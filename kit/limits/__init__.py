"""What a stage will need, what there is, and how work is cut to fit: sizes, counts, estimates, memory, watchdog."""
