"""The simulator: an app in many worlds, each made from a seed, in which everything goes wrong that may.

Engine, runtime and SQL are the real ones. Time, processes, the network, the broker and the world outside are simulated.
"""
