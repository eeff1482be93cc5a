"""One command per algorithm: trains, evaluates, draws and exports."""
