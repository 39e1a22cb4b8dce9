"""`python -m jaxcam`, the same as the command `jaxcam`."""

import sys

from jaxcam._ground.extras import check_all


def main() -> int:
    """The command; 2 where a package that it needs is not installed."""
    try:
        check_all("jaxcam")
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    from jaxcam import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
