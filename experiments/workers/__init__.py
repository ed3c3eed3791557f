"""Who works on a run: one process, several on this machine, or those of a cluster. They know no study."""
