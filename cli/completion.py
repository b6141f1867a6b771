"""`revfs completion`: what makes a shell complete the command line."""

import click
from click.shell_completion import get_completion_class

from cli.console import App

# What click looks for when it is asked to complete instead of to run: _PROGRAM_COMPLETE.
_VARIABLE = "_REVFS_COMPLETE"
_PROGRAM = "revfs"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete verbs, options, revisions, remotes and
    mountpoints.

    \b
    Example:
      eval "$(revfs completion bash)"          # in ~/.bashrc
      eval "$(revfs completion zsh)"           # in ~/.zshrc, after compinit
      revfs completion fish > ~/.config/fish/completions/revfs.fish
    """
    app: App = ctx.obj
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE)
    # Not `source()`: for bash that would first start one, to see how old it is.
    app.console.out((script.source_template % script.source_vars()).rstrip("\n"))
