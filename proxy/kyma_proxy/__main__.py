"""`python -m kyma_proxy` is the command `kyma-proxy`."""

import sys

from kyma_proxy.ops.cli import main

if __name__ == "__main__":
    sys.exit(main())
