package store

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// shapeRow is a row of the table shapes.
type shapeRow struct {
	ID        string
	Format    postrider.Format
	Transform string
	Source    string
}

// insertShape stores what a webhook sends of its events, unless it is the envelope or stored
// already.
func insertShape(ctx context.Context, tx *sqlx.Tx, w postrider.Webhook) error {
	shape := w.Shape()
	if shape.ID() == "" {
		return nil
	}
	_, err := shapesTable.Insert(ctx, tx, shapeRow{shape.ID(), shape.Format, shape.Transform, shape.Source})
	return err
}

// shapes returns what is sent of the deliveries' events, by id.
func (s *Store) shapes(ctx context.Context, deliveries []postrider.Delivery) (map[string]postrider.Shape, error) {
	var wanted []string
	for _, d := range deliveries {
		if d.ShapeID != "" {
			wanted = append(wanted, d.ShapeID)
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	rows, err := keyed(ctx, s.db.Delivering.Reading, selectShapes, "id", wanted, func(r shapeRow) string { return r.ID })
	byID := make(map[string]postrider.Shape, len(rows))
	for id, r := range rows {
		byID[id] = postrider.Shape{Format: r.Format, Transform: r.Transform, Source: r.Source}
	}
	return byID, err
}

// shapeOf returns the delivery's shape. A shape that is missing is an error of the delivery: to
// send another would be wrong.
func shapeOf(d postrider.Delivery, shapes map[string]postrider.Shape) (postrider.Shape, error) {
	shape, known := shapes[d.ShapeID]
	if d.ShapeID != "" && !known {
		return shape, fmt.Errorf("delivery %s: the shape %s is missing", d.ID, d.ShapeID)
	}
	return shape, nil
}
