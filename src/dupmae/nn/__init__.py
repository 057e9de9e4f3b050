"""The mathematics: backbone, decoder, vocabulary losses, objectives, representation. Does no I/O."""
