"""`verify` and its repair over a remote of the test's own."""

from collections.abc import Mapping

from store.local_store import LocalStore
from store.opening import WrapRemote
from store.push_contents import ReadsChunks
from store.verification import Verification
from store.verify import verify_remote
from store.verify_opening import VerifyOptions, open_verification
from store.verify_repair import RepairPlan, plan_repair
from tests.fakes.repositories import NoProgress, commits_of


async def verify(
    local: LocalStore, wrap_remote: WrapRemote, *texts: str, read: bool = False, every: bool = False
) -> Verification:
    """What `verify_remote` finds of revisions (HEAD if none) and their history."""
    async with open_verification(local, VerifyOptions(read, every), wrap_remote) as opened:
        commits = commits_of(local.repository, *texts)
        return await verify_remote(opened.context, commits, NoProgress())


async def repair(
    local: LocalStore,
    wrap_remote: WrapRemote,
    *texts: str,
    read: bool = True,
    others: Mapping[str, ReadsChunks] | None = None,
) -> RepairPlan:
    """Verify revisions (HEAD if none) and their history, and repair what can be; the plan."""
    async with open_verification(local, VerifyOptions(read), wrap_remote) as opened:
        commits = commits_of(local.repository, *texts)
        found = await verify_remote(opened.context, commits, NoProgress())
        context = opened.repair_context(found, "revfs test", others or {})
        plan = await plan_repair(found, context, NoProgress())
        await plan.execute(lambda total_bytes: NoProgress())
        return plan


def named(local: LocalStore, found: Verification) -> dict[str, set[bytes]]:
    """key → paths of the files that are hurt, for each finding."""
    return {f.place: set(f.paths(local.directories)) for f in found.findings.all()}
