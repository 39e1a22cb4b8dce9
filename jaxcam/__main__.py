"""`python -m jaxcam`, the same as the command `jaxcam`."""

import sys

from jaxcam._ground.extras import wanted


def main() -> int:
    """The command; 2 where a package that it needs is not installed."""
    try:
        with wanted("jaxcam", "all"):
            from jaxcam import cli, models  # noqa: F401 (the networks, which every command loads)
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
