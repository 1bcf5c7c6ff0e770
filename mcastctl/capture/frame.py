"""The values that capture yields, under the name of the room that yields them."""

from mcastctl.model.frame import Block, Frame, frames

__all__ = ["Block", "Frame", "frames"]
