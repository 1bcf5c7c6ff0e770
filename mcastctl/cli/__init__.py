"""What the user types: one file per subcommand, and the frame around them."""
