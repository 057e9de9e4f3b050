"""The style sheet of the report's page: one column, system fonts, light and dark."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --card: #f6f8fa; --ink: #1b1f24; --quiet: #57606a;
  --line: #d8dee4; --hybrid: #0072b2; --dupmae: #7fb8dc; --other: #b4bac2; --sparse: #d98c00; --good: #00734f; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2127; --ink: #e4e8ec; --quiet: #9aa4af;
  --line: #343b44; --hybrid: #4aa8e0; --dupmae: #2d6186; --other: #555e69; --sparse: #e6a23c; --good: #4cc38a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .8rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .5rem; }
.outcome { max-width: 52rem; font-size: 1.08rem; }
.outcome p { margin: .4rem 0; }
.note { color: var(--quiet); font-size: .88rem; max-width: 52rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.tiles div { background: var(--card); border-radius: 8px; padding: .5rem .9rem; }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; padding-left: .4rem; }
tbody th { font-weight: 400; }
thead th { color: var(--quiet); font-size: .85rem; font-weight: 600; }
.systems { width: 100%; }
.systems .ours { background: var(--card); }
.systems .ours th { font-weight: 600; }
.pairs td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: .8rem; }
.charts.bars { grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; max-width: 34rem; }
svg text { font-family: inherit; }
article { background: var(--card); border-radius: 10px; padding: .9rem 1.1rem; margin: 0 0 1rem; }
.query { margin: 0; font-size: 1.1rem; }
.answer { margin: .2rem 0 .6rem; color: var(--quiet); font-size: .92rem; }
article ol { margin: 0; padding-left: 1.4rem; }
article ol > li { margin: .7rem 0 0; }
.title { color: var(--ink); font-weight: 600; }
.rank { display: inline-block; border: 1px solid var(--line); border-radius: 1em; padding: 0 .6em;
  font-size: .8rem; font-weight: 400; color: var(--ink); }
.rank.first { border-color: var(--good); color: var(--good); }
.score { display: flex; flex-wrap: wrap; align-items: center; gap: .2rem .8rem; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
.bar { flex: 1 1 8rem; max-width: 16rem; height: .55rem; display: flex; gap: 2px; }
.bar i { display: block; border-radius: 2px; }
.bar .dense { background: var(--hybrid); }
.bar .sparse { background: var(--sparse); }
.key::before { content: ""; display: inline-block; width: .6em; height: .6em; border-radius: 2px; margin-right: .3em; }
.key.dense::before { background: var(--hybrid); }
.key.sparse::before { background: var(--sparse); }
.snippet { margin: .2rem 0; font-size: .9rem; color: var(--quiet); }
.words { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem; padding: 0; margin: .2rem 0 0; }
.words li { background: var(--back); border: 1px solid var(--line); border-radius: 1em; padding: 0 .6em;
  font-size: .85rem; }
.words small { color: var(--quiet); }
.lettered th:nth-child(2) { white-space: normal; min-width: 10rem; }
.lettered .rank { white-space: nowrap; }
.lettered td, .lettered th { text-align: left; }
.sets thead th { white-space: normal; overflow-wrap: normal; }
.sets a { color: inherit; }
.quoted { color: var(--quiet); }
sup { color: var(--hybrid); margin-left: .2em; line-height: 0; }
.wide svg { max-width: 56rem; }
.rank.gain { border-color: var(--hybrid); color: var(--hybrid); }
.rank.loss { border-color: var(--sparse); color: var(--sparse); }
h4 { font-size: .92rem; margin: .6rem 0 .1rem; }
h4 small { color: var(--quiet); font-weight: 400; }
.texts { list-style: none; margin: 0; padding: 0; font-size: .9rem; color: var(--quiet); }
details article { margin-top: .8rem; }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; }
summary { cursor: pointer; }
@media (max-width: 40rem) {
  th, td { padding: .35rem .45rem; font-size: .88rem; }
  .systems th:first-child { white-space: normal; min-width: 8rem; position: sticky; left: 0; background: inherit; }
  .systems.lettered th:first-child { min-width: 0; position: static; }
  .systems tr { background: var(--back); }
  article { padding: .8rem; }
}
"""
