"""What a clip is like in time, and how far two clips are apart. Needs no weights.

frames: (T, H, W, C), T frames of H x W pixels, RGB in 0..1; channels after the third are left out. Frames are numbered
from 0. Clips are read frame by frame: what is needed beside them does not grow with T.
"""
