"""`dupmae study`: a grid of cells through the stages, and what it shows."""
