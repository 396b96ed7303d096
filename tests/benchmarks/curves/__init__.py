"""Cost curves: what every stage takes at several numbers of clients. `cost_curves.py` beside this folder is the command."""
