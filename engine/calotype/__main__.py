"""`python -m calotype` is the `calotype` command."""

from calotype.cli import main

raise SystemExit(main())
