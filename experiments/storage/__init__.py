"""Results on disk: rows, checkpoints, importances, locks, and how far a run is. It knows no study."""
