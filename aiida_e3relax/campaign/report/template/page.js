'use strict';
// Puts the page together once its parts are there.

(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  data.rows = data.table.data.map((values) => Object.fromEntries(values.map((value, i) => [data.table.columns[i], value])));
  const detail = new Detail(data, () => table.getRows('active').map((row) => row.getData().label));
  const open = (label) => detail.open(label);
  const plots = new Plots(data.plots, open);
  const say = (labels) => {
    const total = `${data.rows.length.toLocaleString('en')} structures`;
    document.getElementById('shown').textContent = labels ? `${labels.length.toLocaleString('en')} of ${total}` : total;
    plots.highlight(labels);
  };
  const table = makeTable(document.getElementById('table'), data.rows, data.columns, open, say);
  document.getElementById('clear-filters').addEventListener('click', () => table.clearHeaderFilter());
  document.getElementById('download').addEventListener('click', () => table.download('csv', `${data.name}.csv`));

  const follow = () => {
    const match = /^#structure=(.+)$/.exec(location.hash);
    if (match) open(decodeURIComponent(match[1]));
  };
  window.addEventListener('hashchange', follow);
  follow();
})();
