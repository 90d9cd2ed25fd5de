"""A misbehaving plugin as a program that needs nothing of plugkeep: ``python`` and this folder.

Python runs a folder by its ``__main__``, and finds the modules beside it by their names alone.
They import nothing but the standard library, so that the folder can be copied to anywhere.
"""
