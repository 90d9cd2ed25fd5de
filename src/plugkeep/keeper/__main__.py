"""The keeper's process: ``python -I -S __main__.py CONTROL HOST``. See `keeping`.

A script is compiled whenever it is run, and a module only once: so there is little in this one.
"""

import sys

if __name__ == "__main__":
    # The package, without what it begins with: to import that takes longer than all else here.
    package = sys.modules["plugkeep"] = type(sys)("plugkeep")
    package.__path__ = [__file__.rpartition("/keeper/")[0]]

    from plugkeep.keeper.keeping import main

    main()
