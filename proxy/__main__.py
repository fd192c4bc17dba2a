"""`python -m proxy` is the command `kyma-proxy`."""

import sys

from proxy.ops.cli import main

if __name__ == "__main__":
    sys.exit(main())
