'use strict';
// The plots of the page and the trajectory of one crystal (plotly.js).

const PLOT_CONFIG = { responsive: true, displayModeBar: false };

class Plots {
  // Figures are drawn when they come near the window, so that the page opens at once whatever its size.
  constructor(figures, open) {
    this.figures = figures;
    this.open = open;
    this.labels = null;
    this.drawn = [];
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        watcher.unobserve(entry.target);
        this.draw(entry.target);
      }
    }, { rootMargin: '600px' });
    document.querySelectorAll('[data-plot]').forEach((container) => watcher.observe(container));
  }

  async draw(container) {
    const figure = this.figures[container.dataset.plot];
    const plot = await Plotly.newPlot(container, figure.data, figure.layout, PLOT_CONFIG);
    plot.on('plotly_click', (event) => {
      const label = event.points.map((point) => point.customdata).find((value) => typeof value === 'string');
      if (label !== undefined) this.open(label);
    });
    this.drawn.push(plot);
    if (this.labels) this.mark(plot);
  }

  // Let the points of these labels stand out, or all of them.
  highlight(labels) {
    if (!labels && !this.labels) return;
    this.labels = labels && new Set(labels);
    this.drawn.forEach((plot) => this.mark(plot));
  }

  mark(plot) {
    const traces = plot.data.flatMap((trace, i) => (typeof trace.customdata?.[0] === 'string' ? [i] : []));
    if (!traces.length) return;
    const chosen = traces.map((i) => (
      this.labels && plot.data[i].customdata.flatMap((label, at) => (this.labels.has(label) ? [at] : []))
    ));
    Plotly.restyle(plot, { selectedpoints: chosen }, traces);
  }
}

function drawTrajectory(container, trajectories, style) {
  const traces = [];
  for (const [leg, trajectory] of Object.entries(trajectories)) {
    if (!trajectory) continue;
    const steps = Array.from(trajectory.energies, (_, i) => i + 1);
    const look = {
      x: steps, mode: 'lines+markers', line: { color: style.colours[leg] }, marker: { size: 6 }, legendgroup: leg, name: style.titles[leg],
    };
    traces.push({ ...look, y: Array.from(trajectory.energies), hovertemplate: 'step %{x}: %{y:.4g} meV/atom<extra></extra>' });
    traces.push({ ...look, y: Array.from(trajectory.maxForces), yaxis: 'y2', showlegend: false, hovertemplate: 'step %{x}: %{y:.3g} eV/Å<extra></extra>' });
  }
  if (!traces.length) {
    Plotly.purge(container);
    container.textContent = 'VASP has finished no ionic step.';
    return;
  }
  const shapes = Object.entries(trajectories).flatMap(([leg, trajectory]) => (trajectory?.restarts ?? []).map((start) => ({
    type: 'line', xref: 'x', yref: 'paper', x0: start + 0.5, x1: start + 0.5, y0: 0, y1: 1, line: { color: style.colours[leg], width: 1, dash: 'dot' },
  })));
  const longest = Math.max(...traces.map((trace) => trace.x.length));
  const titled = (axis, text, more) => ({ ...axis, ...more, title: { ...axis.title, text } });
  const { xaxis, yaxis } = style.layout;
  Plotly.react(container, traces, {
    ...style.layout,
    height: 380,
    shapes,
    xaxis: titled(xaxis, 'ionic step', { anchor: 'y2', range: [0.5, longest + 0.5], dtick: longest < 12 ? 1 : undefined }),
    yaxis: titled(yaxis, 'energy (meV/atom)', { domain: [0.54, 1] }),
    yaxis2: titled(yaxis, 'largest force (eV/Å)', { domain: [0, 0.46], rangemode: 'tozero' }),
  }, PLOT_CONFIG);
}
