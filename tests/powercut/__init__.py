"""Power cuts: the store over a disk that is recorded, and cut off at any point of the record."""
