"""A parcel cut into QR frames and put together again: BBQr and UR. Pure; pictures are made and read in `pictures`."""

from custody.frames.parcel import FrameKind, Frames, Joiner, Parcel, ParcelKind, digest_of, frames_of

__all__ = ["FrameKind", "Frames", "Joiner", "Parcel", "ParcelKind", "digest_of", "frames_of"]
