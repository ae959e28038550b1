'use strict';
// One structure: its crystals, its relaxations, its nodes.

function element(tag, text, className = '') {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

class Detail {
  // `order` gives the labels of the table as it is sorted and filtered.
  constructor(data, order) {
    this.data = data;
    this.order = order;
    this.rows = new Map(data.rows.map((row) => [row.label, row]));
    this.dialog = document.getElementById('detail');
    this.views = new Views(document.getElementById('views'), data.symbols);
    this.repeat = document.getElementById('repeat');
    document.getElementById('close').addEventListener('click', () => this.dialog.close());
    document.getElementById('previous').addEventListener('click', () => this.step(-1));
    document.getElementById('next').addEventListener('click', () => this.step(1));
    document.getElementById('reset-view').addEventListener('click', () => this.views.reset(this.crystals));
    this.repeat.addEventListener('change', () => this.views.show(this.crystals, Number(this.repeat.value)));
    this.dialog.addEventListener('close', () => history.replaceState(null, '', location.pathname + location.search));
    this.dialog.addEventListener('keydown', (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (way && event.target !== this.repeat) this.step(way);
    });
    window.addEventListener('resize', () => this.views.resize());
  }

  // Decoded with the first crystal that is opened.
  get packed() {
    this.decoded ??= {
      structures: Object.fromEntries(STAGES.map((stage) => [stage, new Crystals(this.data.structures[stage])])),
      trajectories: Object.fromEntries(
        Object.entries(this.data.trajectories).map(([leg, packed]) => [leg, new Trajectories(packed)]),
      ),
    };
    return this.decoded;
  }

  step(way) {
    const labels = this.order();
    const label = labels[labels.indexOf(this.label) + way];
    if (label !== undefined) this.open(label);
  }

  open(label) {
    const row = this.rows.get(label);
    if (!row) return;
    this.label = label;
    history.replaceState(null, '', `#structure=${encodeURIComponent(label)}`);
    this.tell(row);
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.focus();
    this.dialog.scrollTop = 0;
    this.draw(label);
  }

  tell(row) {
    document.getElementById('detail-title').textContent = row.formula === row.label ? row.label : `${row.formula}  ${row.label}`;
    const words = [row.state, row.verdict && `prediction ${row.verdict}`, { yes: 'same minimum', no: 'another minimum' }[row.same_minimum]];
    const kinds = [row.state, row.verdict, row.same_minimum];
    document.getElementById('detail-chips').replaceChildren(...words.flatMap((word, i) => (
      word ? [element('span', word, `chip ${wordClass(kinds[i])}`)] : []
    )));
    const elements = row.elements.split(' ').map((symbol) => {
      const entry = element('span', symbol, 'element');
      const dot = element('i', '');
      dot.style.background = elementColour(symbol);
      entry.prepend(dot);
      return entry;
    });
    document.getElementById('elements').replaceChildren(...elements);
    this.tellLegs(row);
    const failure = row.exit_message && `Exit code ${row.exit_status}: ${row.exit_message}`;
    const messages = [failure, ...row.reasons, ...row.remarks].filter(Boolean);
    document.getElementById('messages').replaceChildren(...messages.map((sentence) => element('p', sentence)));
    this.tellNodes(row);
  }

  tellLegs(row) {
    const head = document.createElement('tr');
    head.append(...['', 'without', 'with', 'difference'].map((title) => element('th', title, title && 'number')));
    const lines = this.data.legRows.map(({ title, key, digits }) => {
      const [before, after] = ['raw', 'predicted'].map((leg) => row[`${leg}_${key}`]);
      const known = typeof before === 'number' && typeof after === 'number';
      const difference = known ? (after >= before ? '+' : '') + formatNumber(after - before, digits) : '–';
      const line = document.createElement('tr');
      line.append(element('th', title), ...[formatNumber(before, digits), formatNumber(after, digits), difference].map((text) => element('td', text, 'number')));
      return line;
    });
    const parts = [document.createElement('thead'), document.createElement('tbody')];
    parts[0].append(head);
    parts[1].append(...lines);
    document.getElementById('legs').replaceChildren(...parts);
  }

  tellNodes(row) {
    const entries = [['raw crystal', row.structure_uuid, `verdi node show ${row.structure_uuid}`]];
    if (row.chain_uuid) {
      entries.push([`chain (PK ${row.chain_pk})`, row.chain_uuid, `verdi process status -c ${row.chain_uuid}`]);
      entries.push(['', null, `aiida-e3relax show ${row.chain_uuid}`], ['', null, `verdi node graph generate ${row.chain_uuid}`]);
    }
    if (row.model) entries.push(['model, by content', row.model, null]);
    const list = entries.flatMap(([title, uuid, command]) => {
      const told = document.createElement('dd');
      for (const text of [uuid, command].filter(Boolean)) told.append(element('code', text), ' ');
      return [element('dt', title), told];
    });
    document.getElementById('nodes').replaceChildren(...list);
  }

  draw(label) {
    const { structures, trajectories } = this.packed;
    this.crystals = STAGES.map((stage) => structures[stage].get(label));
    document.getElementById('stages').replaceChildren(...STAGES.map((stage, i) => {
      const heading = element('div', '');
      heading.append(element('strong', stage), element('small', this.crystals[i] ? describeCell(this.crystals[i].cell) : 'there is none'));
      return heading;
    }));
    try {
      this.views.show(this.crystals, Number(this.repeat.value));
    } catch (error) {
      // The rest of the report is of use without WebGL, which some remote desktops lack.
      document.getElementById('views').textContent = `This browser cannot draw in three dimensions (${error}).`;
    }
    const ofLabel = Object.fromEntries(Object.entries(trajectories).map(([leg, one]) => [leg, one.get(label)]));
    drawTrajectory(document.getElementById('trajectory'), ofLabel, this.data.style);
  }
}
