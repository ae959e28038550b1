'use strict';
// The table of all structures (Tabulator, which holds the visible rows only).

function formatNumber(value, digits) {
  if (value === null || value === undefined) return '–';
  return value.toFixed(digits).replace(/^-(?=0?\.?0*$)/, '').replace('-', '−');  // no negative zero
}

// Whether a value passes what was typed under a heading of numbers: `> 5`, `<= 0`, `= 3` or the start of a number.
function passesNumber(typed, value) {
  const match = /^\s*(<=|>=|<|>|=)?\s*([-+−]?\d*\.?\d+(?:e[-+]?\d+)?)\s*$/i.exec(typed);
  if (!match) return !typed.trim() || formatNumber(value, 6).startsWith(typed.trim());
  if (value === null) return false;
  const bound = Number(match[2].replace('−', '-'));
  switch (match[1]) {
    case '<': return value < bound;
    case '<=': return value <= bound;
    case '>': return value > bound;
    case '>=': return value >= bound;
    default: return Math.abs(value - bound) < 1e-9;
  }
}

function wordClass(word) {
  if (['finished', 'accepted', 'yes'].includes(word)) return 'good';
  if (['failed', 'excepted', 'killed', 'rejected', 'no'].includes(word)) return 'bad';
  return ['accepted with warnings', 'running'].includes(word) ? 'odd' : '';
}

function makeChip(word) {
  const chip = document.createElement('span');
  chip.className = `chip ${wordClass(word)}`;
  chip.textContent = word;
  return chip;
}

function makeLink(label) {
  const link = document.createElement('a');
  link.href = `#structure=${encodeURIComponent(label)}`;
  link.textContent = label;
  return link;
}

// What a download holds in the place of a text: one that a spreadsheet would take for a formula gets a quotation mark.
function defuse(value) {
  return typeof value === 'string' && /^(\s*[-=+@]|[\t\r])/.test(value) ? `'${value}` : value;
}

function makeColumn(column) {
  const shared = { title: column.title, field: column.field, headerTooltip: column.meaning, headerWordWrap: true, minWidth: column.width, headerFilter: 'input', accessorDownload: defuse };
  switch (column.kind) {
    case 'label':
      return { ...shared, frozen: true, sorter: 'alphanum', headerFilterPlaceholder: 'contains', formatter: (cell) => makeLink(cell.getValue()) };
    case 'number':
      return {
        ...shared, hozAlign: 'right', sorter: 'number', sorterParams: { alignEmptyValues: 'bottom' }, headerFilterPlaceholder: '> or <',
        headerFilterFunc: passesNumber, formatter: (cell) => formatNumber(cell.getValue(), column.digits),
      };
    case 'word':
      return {
        ...shared, sorter: 'string', headerFilterPlaceholder: 'contains',
        formatter: (cell) => (cell.getValue() ? makeChip(cell.getValue()) : ''),
      };
    default:
      return { ...shared, sorter: 'alphanum', headerFilterPlaceholder: 'contains' };
  }
}

// `open` is called with the label of a row, `say` with the labels that pass the filters, null without any.
function makeTable(container, rows, columns, open, say) {
  const table = new Tabulator(container, {
    data: rows,
    index: 'label',
    columns: columns.map(makeColumn),
    maxHeight: 640,
    layout: 'fitColumns',
    initialSort: [],
    placeholder: 'No structure passes these filters.',
    columnDefaults: { vertAlign: 'middle' },
  });
  table.on('rowClick', (event, row) => {
    if (!event.target.closest('a')) open(row.getData().label);
  });
  table.on('dataFiltered', (filters, rows) => say(filters.length ? rows.map((row) => row.getData().label) : null));
  return table;
}
