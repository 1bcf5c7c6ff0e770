"""The values that capture yields, under the name of the room that yields them."""

from mcastctl.model.frame import Block as Block
from mcastctl.model.frame import Frame as Frame
