#!/usr/bin/env bash
# A day of somebody who comes from DVC, in real commands, in the order of the README's table.
#
#   dvc_table.sh FOLDER URL [OPTION of revfs remote add...]
#
# FOLDER is empty. Ends with 0 only if every step did what it says.
set -euo pipefail

readonly folder=$1 url=$2
shift 2

step() { printf '\n=== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
same() { diff -r "$@" || fail "$* differ"; }
clean() { [[ -z $(git status --porcelain) ]] || { git status; fail "the work tree is not clean"; }; }
holds() { grep -q -e "$1" <<<"$2" || fail "no '$1' in: $2"; }

bytes() { python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(int(sys.argv[1])).randbytes(int(sys.argv[2])))' "$1" "$2"; }

leave() {
  for mountpoint in "$folder"/mnt*; do
    mountpoint -q "$mountpoint" && revfs unmount "$mountpoint"
  done
  return 0
}
trap leave EXIT

git init --quiet --bare "$folder/origin.git"

step "dvc init, git commit -> revfs init"
git init --quiet "$folder/work" && cd "$folder/work"
revfs init
git commit --quiet -m "Set up revfs"

step "dvc remote add -d, modify --local profile -> the same words"
revfs remote add -d storage "$url" "$@"
git commit --quiet -m "Where the data goes"
revfs remote modify --local storage profile person
holds 'profile person' "$(revfs remote list)"
git remote add origin "$folder/origin.git"

step "dvc add data, git add data.dvc -> revfs add data; git add data once it is tracked"
mkdir data
for number in 1 2 3; do bytes $number 30000 >data/$number.bin; done
bytes 9 3000000 >data/large.bin
revfs add data
git commit --quiet -m "Version 1"
bytes 4 20000 >data/4.bin
git add data
[[ $(git cat-file -p :data/4.bin | head -1) == "revfs 1" ]] || fail "git add added the file itself"
git commit --quiet -m "A file more"
git tag version_1
clean
cp -r data "$folder/data-1"

step "dvc push -> revfs push, or just git push"
revfs push
git push --quiet origin HEAD --tags 2>&1

step "change data, dvc add, git commit, dvc push -> git commit -a, git push"
bytes 11 31000 >data/1.bin
{ head -c 1000000 "$folder/data-1/large.bin"; echo inserted; tail -c +1000001 "$folder/data-1/large.bin"; } >data/large.bin
rm data/2.bin
git commit --quiet -a -m "Version 2"
git tag version_2
clean
cp -r data "$folder/data-2"
holds 'revfs: pushed 1 commit' "$(git push origin HEAD --tags 2>&1)"

step "git checkout v1 && dvc checkout -> git checkout v1"
git checkout --quiet version_1
same data "$folder/data-1"
clean
git checkout --quiet -
same data "$folder/data-2"

step "a fresh clone: dvc pull -> nothing, mount"
git clone --quiet "$folder/origin.git" "$folder/clone" && cd "$folder/clone"
export XDG_CACHE_HOME="$folder/cache-of-the-clone"
holds 'revfs 1' "$(head -1 data/1.bin)"
mkdir "$folder/mnt1" "$folder/mnt2"
revfs mount version_1 "$folder/mnt1"
revfs mount version_2 "$folder/mnt2"
same "$folder/mnt1/data" "$folder/data-1"
same "$folder/mnt2/data" "$folder/data-2"
revfs unmount "$folder/mnt1"
revfs unmount "$folder/mnt2"

step "dvc pull, dvc fetch, dvc checkout -> revfs pull, fetch, checkout"
rm -rf "$XDG_CACHE_HOME"
revfs init
revfs fetch version_2 data/1.bin
revfs checkout data/1.bin
cmp data/1.bin "$folder/data-2/1.bin"
revfs fetch
revfs pull data/large.bin
revfs pull
same data "$folder/data-2"
clean
git checkout --quiet version_1
revfs pull
same data "$folder/data-1"
git checkout --quiet -
clean

step "dvc status, dvc data status, dvc diff -> revfs status, revfs diff"
holds '"modified"' "$(revfs status --json)"
echo changed >data/3.bin
holds 'data/3.bin' "$(revfs status)"
git restore data/3.bin
difference=$(revfs diff version_1 version_2)
holds 'data/1.bin' "$difference"
holds 'data/2.bin' "$difference"
holds 'new' "$difference"
revfs diff version_1 version_2 --json | python3 -m json.tool >/dev/null

step "dvc list, dvc du -> revfs ls, revfs du"
holds 'large.bin' "$(revfs ls version_1 data)"
holds 'data' "$(revfs du version_2)"

step "dvc get, dvc import -> --repo URL_OR_PATH cat, export, mount"
cd "$folder"
for repo in "file://$folder/origin.git" "$folder/clone"; do
  revfs --repo "$repo" cat version_1:data/1.bin | cmp - "$folder/data-1/1.bin"
  rm -rf "$folder/exported"
  revfs --repo "$repo" export version_2 data "$folder/exported"
  same "$folder/exported" "$folder/data-2"
  revfs --repo "$repo" mount version_1 "$folder/mnt1"
  same "$folder/mnt1/data" "$folder/data-1"
  revfs unmount "$folder/mnt1"
done

step "dvc config, its levels, --show-origin -> revfs config"
cd "$folder/clone"
revfs config --user cache.size 5GiB
holds '5GiB' "$(revfs config --show-origin cache.size)"
holds 'core.remote' "$(revfs config --list --show-origin)"

step "a branch for a task -> works by itself; mount --follow moves with it"
git switch --quiet -c task
mkdir "$folder/mnt3"
revfs mount --follow task "$folder/mnt3"
same "$folder/mnt3/data" "$folder/data-2"
bytes 21 40000 >data/task.bin
git add data
git commit --quiet -m "The task's own data"
for _ in $(seq 100); do [[ -e $folder/mnt3/data/task.bin ]] && break; sleep 0.1; done
cmp "$folder/mnt3/data/task.bin" data/task.bin
revfs unmount "$folder/mnt3"
git push --quiet origin task 2>&1

step "dvc stage, dvc repro -> revfs run"
revfs run -n count -d data/task.bin -o counts -- sh -c 'mkdir -p counts && wc -c <data/task.bin >counts/size'
holds '40000' "$(cat counts/size)"
holds 'revfs.lock' "$(git status --porcelain)"
git commit --quiet -m "Count"
holds 'up to date' "$(revfs run --all)"
bytes 22 41000 >data/task.bin
git add data
revfs run --all
holds '41000' "$(cat counts/size)"
git commit --quiet -a -m "Count again"
clean

step "the branch back: a merge, the other way round, with a conflict over data"
git push --quiet origin task 2>&1
cd "$folder/work"
export XDG_CACHE_HOME="$folder/cache-of-the-work"
git pull --quiet origin task
revfs pull
cmp data/task.bin "$folder/clone/data/task.bin"
bytes 31 5000 >data/1.bin && git commit --quiet -a -m "Ours"
git push --quiet origin HEAD 2>&1
cd "$folder/clone"
export XDG_CACHE_HOME="$folder/cache-of-the-clone"
bytes 32 6000 >data/1.bin && git commit --quiet -a -m "Theirs"
git fetch --quiet origin
main=$(git -C "$folder/work" symbolic-ref --short HEAD)
git merge --quiet "origin/$main" && fail "there was no conflict"
[[ $(stat -c %s data/1.bin) == 6000 ]] || fail "not ours is kept"
revfs resolve --theirs data/1.bin
git commit --quiet --no-edit
revfs pull
cmp data/1.bin "$folder/work/data/1.bin"
clean
git push --quiet origin task 2>&1

step "data that is not in the work tree -> revfs add SRC --to PATH"
git clone --quiet --no-checkout --branch task "$folder/origin.git" "$folder/small"
cd "$folder/small"
cp -r "$folder/data-2" "$folder/elsewhere"
revfs init
revfs add "$folder/elsewhere" --to imagenet
git commit --quiet -m "From elsewhere"
[[ ! -e imagenet ]] || fail "it was copied in"
clean
revfs --repo . cat HEAD:imagenet/1.bin | cmp - "$folder/elsewhere/1.bin"
holds 'data/task.bin' "$(git ls-tree -r --name-only HEAD)"

step "dvc remove x.dvc -> revfs remove PATH; git rm deletes"
cd "$folder/work"
export XDG_CACHE_HOME="$folder/cache-of-the-work"
revfs remove data/3.bin
[[ -e data/3.bin ]] || fail "revfs remove deleted the file"
git rm --quiet data/4.bin
[[ ! -e data/4.bin ]] || fail "git rm left the file"
git commit --quiet -m "Two files fewer"

step "what is there helps itself: doctor, completion, man"
revfs doctor || fail "the doctor found something"
revfs completion bash | bash -n
revfs man >/dev/null
step "all was as it should be"
