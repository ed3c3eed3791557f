"""Results as tables: read, with the columns of every study, of earlier studies too, and by network."""
