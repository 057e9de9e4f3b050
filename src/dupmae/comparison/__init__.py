"""`dupmae compare`: several systems on the same queries, and whether they differ by more than chance."""
