"""Setting git up in a clone: the filter, and the hook, with the words that a person is told."""

from collections.abc import Callable, Sequence

from cli.console import App
from cli.own_command import own_command
from store.git_command import RepositoryPaths
from store.git_setup import (
    HookState,
    advice,
    filter_is_set_up,
    look_at_hook,
    set_filter_up,
    write_hook,
)

Say = Callable[[str], None]


def set_hook_up(
    paths: RepositoryPaths, words: Sequence[str], say: Say, *, may_change: bool
) -> None:
    """Have git push send the data first, or say what is in the way of it; with `may_change` a hook
    that is another's, or in a shared folder, is changed. Raises GitError."""
    hook = look_at_hook(paths)
    if hook.state is HookState.OURS:
        return
    if may_change or (hook.state is HookState.MISSING and not hook.shared):
        write_hook(hook, words)
        say(f"git push sends data first: {hook.path}")
        return
    place = "a folder of hooks that is not this repository's" if hook.shared else "left as it is"
    say(
        f"the hook {hook.path} ({place}) does not send data yet: revfs init --hooks adds it, or "
        f"{advice(words)}"
    )


def ensure_set_up(app: App, paths: RepositoryPaths) -> None:
    """Have git set up before the work tree gets data, in a clone where nobody ran `revfs init`:
    else the next git add would put the data itself into git, and git push send none. A filter that
    is configured anywhere shows that somebody did."""
    if filter_is_set_up(paths):
        return
    words = own_command()
    set_filter_up(paths, words)

    def say(text: str) -> None:
        # Not on stdout, where a program may wait for JSON.
        if not app.console.quiet:
            app.console.trace(f"revfs: {text}")

    say("git's filter for tracked files is set up in this clone")
    set_hook_up(paths, words, say, may_change=False)
