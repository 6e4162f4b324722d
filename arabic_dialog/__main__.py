"""`python -m arabic_dialog` does what `arabic-dialog` does."""

from arabic_dialog.core.endings import start


def invoke(words: list[str]) -> int:
    "Do what the words say; what the commands read when they are loaded may be damaged too"
    from arabic_dialog.commands.cli import invoke

    return invoke(words)


def main() -> None:
    start(invoke)


if __name__ == "__main__":
    main()
