"""Sockets that move data: options, sender, receiver, responder and the loop."""
