"""One command for each algorithm: trains, evaluates, plots and exports."""
