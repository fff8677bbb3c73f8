"""`python -m calotype_export` is `calotype-export`."""

import sys

from calotype_export.cli import main

sys.exit(main())
