"""What things are: pure values and rules, without sockets, files or clocks."""
