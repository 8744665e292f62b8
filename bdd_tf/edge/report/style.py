"""The style of the report: light, dark, and for paper."""

STYLE = """
:root { color-scheme: light dark; --ground: #f5f6f8; --paper: #fff; --ink: #1a2029; --soft: #4f5b6a; --line: #d9dee6;
  --track: #e6eaf0; --real: #00639c; --fake: #ae4b00; --unsure: #4f5b6a; --bar-real: #0072b2; --bar-fake: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --paper: #1b2129; --ink: #e9edf2; --soft: #a3afbd;
  --line: #303945; --track: #2b333e; --real: #6bb8e8; --fake: #ff9d52; --unsure: #b6c0cc; --bar-real: #3a9bd8;
  --bar-fake: #ee7c26; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 24px 20px 48px; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 820px; margin-left: auto; margin-right: auto; }
header p, footer { color: var(--soft); font-size: 14px; }
header { margin-bottom: 20px; }
header p { margin-top: 2px; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 24px; line-height: 1.25; }
h2 { margin: 0 0 10px; font-size: 18px; }
section { margin: 0 0 16px; padding: 20px 22px; background: var(--paper); border: 1px solid var(--line); border-radius: 14px; }
p { margin: 0 0 8px; }
p:last-child, ul:last-child { margin-bottom: 0; }
ul { margin: 0; padding-left: 20px; }
li { margin-bottom: 4px; }
.verdict { display: grid; grid-template-columns: minmax(0, 260px) minmax(0, 1fr); gap: 22px; align-items: start;
  border-top: 6px solid var(--unsure); }
.verdict.FAKE { border-top-color: var(--bar-fake); }
.verdict.REAL { border-top-color: var(--bar-real); }
.verdict img { display: block; max-width: 100%; max-height: 320px; border-radius: 8px; background: var(--track); }
.badge { display: block; margin: 0 0 4px; font-size: 30px; font-weight: 750; line-height: 1.1; color: var(--unsure); }
.FAKE .badge { color: var(--fake); }
.REAL .badge { color: var(--real); }
.lead { font-size: 18px; font-weight: 600; }
.meter { display: block; width: 100%; height: auto; margin: 12px 0 2px; }
.track { fill: var(--track); }
.fill { fill: var(--unsure); }
.FAKE .fill { fill: var(--bar-fake); }
.REAL .fill { fill: var(--bar-real); }
.tick { fill: var(--ink); }
.scale { display: flex; justify-content: space-between; margin-bottom: 12px; color: var(--soft); font-size: 13px; }
.heat { display: block; width: 100%; height: auto; border-radius: 8px; background: #fff; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 15px; }
caption { padding: 0 0 8px; text-align: left; color: var(--soft); }
th, td { padding: 7px 10px 7px 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top; }
.text { overflow-wrap: anywhere; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: 13px; }
tbody th { font-weight: 600; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.digest { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.FAKE-ink { color: var(--fake); font-weight: 650; }
.REAL-ink { color: var(--real); font-weight: 650; }
.UNSURE-ink { color: var(--unsure); font-weight: 650; }
@media (max-width: 620px) { body { padding: 16px 12px 32px; } .verdict { grid-template-columns: minmax(0, 1fr); }
  section { padding: 16px; } }
@media print {
  :root { color-scheme: light; --ground: #fff; --paper: #fff; --ink: #000; --soft: #333; --line: #bbb; --track: #e6eaf0;
    --real: #00507e; --fake: #8f3d00; --unsure: #333; }
  @page { margin: 16mm; }
  body { padding: 0; font-size: 11pt; }
  section { padding: 10px 0; border: 0; border-top: 1px solid var(--line); border-radius: 0; break-inside: avoid; }
  .verdict { border-top-width: 4px; }
  .meter { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .wide { overflow: visible; }
}
"""
