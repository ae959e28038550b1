'use strict';
// Three crystals side by side in one canvas, turning together (3Dmol.js).

const STAGES = ['raw', 'predicted', 'relaxed'];
const STYLE = { sphere: { scale: 0.28, colorscheme: 'Jmol' }, stick: { radius: 0.11, colorscheme: 'Jmol' } };
const ON_FACE = 0.05;  // of a lattice vector: relaxed atoms are rarely on a face exactly
const BOX = { box: { color: '#57606a' }, astyle: { hidden: true }, bstyle: { hidden: true }, cstyle: { hidden: true } };

const SIDE = [-0.531, -0.115, -0.106, 0.833];  // quaternion: c upwards, b to the back, a little from the side
const MARGIN = 12;  // how much farther the camera stands than it would have to

function cross(u, v) {
  return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
}

function dot(u, v) {
  return u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
}

function latticeVectors(cell) {
  return [0, 3, 6].map((i) => cell.subarray(i, i + 3));
}

function describeCell(cell) {
  const vectors = latticeVectors(cell);
  const lengths = vectors.map((vector) => Math.hypot(...vector).toFixed(2));
  const volume = Math.abs(dot(vectors[0], cross(vectors[1], vectors[2])));
  return `${lengths.join(' × ')} Å, ${volume.toFixed(1)} Å³`;
}

function fractions(crystal) {
  const [a, b, c] = latticeVectors(crystal.cell);
  const volume = dot(a, cross(b, c));
  const reciprocal = [cross(b, c), cross(c, a), cross(a, b)];
  return Array.from(crystal.numbers, (_, i) => {
    const site = crystal.positions.subarray(3 * i, 3 * i + 3);
    return reciprocal.map((vector) => dot(vector, site) / volume);
  });
}

// The atoms to draw, as [site, shift by lattice vectors]: those in the cells and, so that cells look whole, on all of their faces.
function findImages(sites, repeat) {
  const shifts = (fraction) => {
    const first = -Math.floor(fraction + ON_FACE);
    const found = [];
    for (let shift = first; fraction + shift <= repeat + ON_FACE; shift++) found.push(shift);
    return found;
  };
  return sites.flatMap((site, i) => {
    const [along_a, along_b, along_c] = site.map(shifts);
    return along_a.flatMap((n) => along_b.flatMap((m) => along_c.map((l) => [i, [n, m, l]])));
  });
}

// The same atoms in each crystal: those of the reference, each at its nearest image there.
function placeImages(crystal, images, reference) {
  const sites = fractions(crystal);
  return images.map(([i, shift]) => {
    const place = sites[i].map((value, k) => value + Math.round(reference[i][k] - value) + shift[k]);
    const position = [0, 1, 2].map((axis) => place.reduce((sum, value, k) => sum + value * crystal.cell[3 * k + axis], 0));
    return { number: crystal.numbers[i], position };
  });
}

function extendedXyz(atoms, cell, symbols) {
  const lines = atoms.map((atom) => `${symbols[atom.number]} ${atom.position.join(' ')}`);
  return [lines.length, `Lattice="${Array.from(cell).join(' ')}"`, ...lines].join('\n');
}

class Views {
  constructor(container, symbols) {
    this.container = container;
    this.symbols = symbols;
    this.viewers = null;
  }

  // Show crystals, null for one that is not there, with so many cells along each lattice vector.
  show(crystals, repeat) {
    // One WebGL context for the life of the page: browsers allow a few only. It needs a visible container.
    this.viewers ??= $3Dmol.createViewerGrid(
      this.container, { rows: 1, cols: STAGES.length, control_all: true }, { backgroundColor: 'white', antialias: true },
    )[0];
    const reference = fractions(crystals.findLast((crystal) => crystal));
    const images = findImages(reference, repeat);
    crystals.forEach((crystal, i) => {
      const viewer = this.viewers[i];
      viewer.removeAllModels();
      viewer.removeAllShapes();
      viewer.removeAllLabels();
      if (!crystal) return;
      const model = viewer.addModel(extendedXyz(placeImages(crystal, images, reference), crystal.cell, this.symbols), 'xyz');
      viewer.addUnitCell(model, BOX);
      viewer.setStyle({}, STYLE);
    });
    this.reset(crystals);
  }

  // Look at all from the same side and distance, so that sizes can be compared.
  reset(crystals) {
    const shown = this.viewers.filter((_, i) => crystals[i]);
    shown.forEach((viewer) => viewer.zoomTo());
    const views = shown.map((viewer) => viewer.getView());
    const depth = Math.min(...views.map((view) => view[3]));
    shown.forEach((viewer, i) => viewer.setView([...views[i].slice(0, 3), depth - MARGIN, ...SIDE], true));
    this.viewers.forEach((viewer) => viewer.render());
  }

  resize() {
    this.viewers?.forEach((viewer) => viewer.resize());
  }
}

function elementColour(symbol) {
  const colour = $3Dmol.elementColors.Jmol[symbol] ?? 0xff1493;
  return `#${colour.toString(16).padStart(6, '0')}`;
}
