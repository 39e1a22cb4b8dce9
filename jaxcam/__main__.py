"""`python -m jaxcam`, the same as the command `jaxcam`."""

import sys

from jaxcam.cli import main

sys.exit(main())
