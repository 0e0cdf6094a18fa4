"""Print the shape of the code: sizes, cycles of imports, longest functions. Fails on nothing: a reader decides.

python3 scripts/shape.py              of src/minuet
python3 scripts/shape.py tests        of another folder
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 12  # lines of each table


def main() -> None:
    folder = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "src/minuet")
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}
    if not trees:
        print(f"{folder.relative_to(ROOT)}: no Python")
        return
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in trees}
    functions = sorted(((size, where) for path in trees for size, where in _functions(path, trees[path])), reverse=True)
    _print_folders(folder, lines)
    _print_sizes("files", list(lines.values()))
    _print_sizes("functions", [size for size, _ in functions])
    print("\nlongest files")
    for path in sorted(lines, key=lambda path: -lines[path])[:LONGEST]:
        print(f"  {lines[path]:6}  {path.relative_to(folder)}")
    print("\nlongest functions")
    for size, where in functions[:LONGEST]:
        print(f"  {size:6}  {where}")
    cycles = list(_cycles(_imports(folder, trees)))
    print(f"\ncycles of imports: {len(cycles)}")
    for cycle in cycles:
        print(f"  {' <-> '.join(cycle)}")


def _print_folders(folder: Path, lines: Mapping[Path, int]) -> None:
    sizes: dict[str, list[int]] = defaultdict(list)
    for path, size in lines.items():
        parts = path.relative_to(folder).parts
        sizes[parts[0] if len(parts) > 1 else "."].append(size)
    print(f"{'folder':20} {'files':>6} {'lines':>7}")
    for name, of_folder in sorted(sizes.items()):
        print(f"{name:20} {len(of_folder):6} {sum(of_folder):7}")
    print(f"{'all':20} {len(lines):6} {sum(lines.values()):7}\n")


def _print_sizes(what: str, sizes: list[int]) -> None:
    if len(sizes) > 1:
        print(f"{what}: median {median(sizes):.0f} lines, 95th percentile {quantiles(sizes, n=20)[-1]:.0f}")


def _functions(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            yield size, f"{node.name}  {path.relative_to(ROOT)}:{node.lineno}"


def _imports(folder: Path, trees: Mapping[Path, ast.Module]) -> dict[str, set[str]]:
    """Give, for each module, the modules of the same folder that its top level imports."""
    names = {_module(folder, path): path for path in trees}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in trees[path].body:
            if isinstance(node, ast.Import):
                found = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = {f"{node.module}.{alias.name}" for alias in node.names}
                found = {module if module in names else node.module for module in modules}
            else:
                continue
            graph[name] |= found & names.keys() - {name}
    return graph


def _module(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _cycles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Give the sets of modules that reach each other, largest first."""
    reach = {name: _reachable(graph, name) for name in graph}
    groups = {frozenset({name} | {other for other in reach[name] if name in reach[other]}) for name in graph}
    yield from sorted((sorted(group) for group in groups if len(group) > 1), key=len, reverse=True)


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting.extend(new)
    return seen


if __name__ == "__main__":
    main()
