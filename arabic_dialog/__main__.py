"""`python -m arabic_dialog` does what `arabic-dialog` does."""

from arabic_dialog.commands.cli import main

if __name__ == "__main__":
    main()
