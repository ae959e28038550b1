'use strict';
// Structures and trajectories: packed by packing.py, decoded when first asked for.

function decode(text, ArrayType) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new ArrayType(bytes.buffer);
}

// Where each label's values start in a flat array, and how many they are.
function locate(labels, counts) {
  const places = new Map();
  let start = 0;
  labels.forEach((label, i) => {
    places.set(label, { index: i, start, count: counts[i] });
    start += counts[i];
  });
  return places;
}

class Crystals {
  constructor(packed) {
    this.places = locate(packed.labels, decode(packed.nAtoms, Uint32Array));
    this.numbers = decode(packed.numbers, Uint8Array);
    this.positions = decode(packed.positions, Float32Array);
    this.cells = decode(packed.cells, Float32Array);
  }

  // The crystal of a label, positions and lattice vectors (rows) in angstrom; null where there is none.
  get(label) {
    const place = this.places.get(label);
    if (!place) return null;
    const end = place.start + place.count;
    return {
      numbers: this.numbers.subarray(place.start, end),
      positions: this.positions.subarray(3 * place.start, 3 * end),
      cell: this.cells.subarray(9 * place.index, 9 * place.index + 9),
    };
  }
}

class Trajectories {
  constructor(packed) {
    this.places = locate(packed.labels, decode(packed.nSteps, Uint32Array));
    this.energies = decode(packed.energies, Float32Array);
    this.maxForces = decode(packed.maxForces, Float32Array);
    this.restarts = packed.restarts;
  }

  // Energies (meV/atom above the lowest of both legs) and largest forces (eV/angstrom) of a label, or null.
  get(label) {
    const place = this.places.get(label);
    if (!place) return null;
    const end = place.start + place.count;
    return {
      energies: this.energies.subarray(place.start, end),
      maxForces: this.maxForces.subarray(place.start, end),
      restarts: this.restarts[label] || [],
    };
  }
}
