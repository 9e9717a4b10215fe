"""The main job from beginning to end, on real data, in a folder of its own."""
